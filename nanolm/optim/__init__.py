"""The group `optim`: one optimizer a file, and the learning rate over time.

In: a model. Out: a torch optimizer whose groups carry the width's learning rates.
"""
