"""A run as a folder for others: transformers, llama.cpp, onnxruntime, a Hugging Face Space, int8; with a model card.

In: a run. Out: a folder, uploaded if asked.
"""
