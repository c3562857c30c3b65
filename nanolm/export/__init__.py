"""A run as a folder for others: transformers, llama.cpp, onnxruntime, a browser, a Hugging Face Space, int8.

In: a run. Out: a folder with a model card, uploaded if asked.
"""
