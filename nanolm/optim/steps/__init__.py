"""Optimizers that import torch, apart from the configs, which must load without it."""
