"""Modules, under PyTorch's names: layers, containers, losses, initialisers."""

from groundup.nn import functional, init
from groundup.nn.activation import GELU, Dropout, ReLU, Sigmoid, SiLU, Softmax, Tanh
from groundup.nn.attention import MultiHeadAttention
from groundup.nn.clip import clip_factor, clip_grad_norm_, grad_norm
from groundup.nn.containers import ModuleDict, ModuleList, Sequential
from groundup.nn.convolution import AvgPool2d, Conv1d, Conv2d, ConvTranspose2d, MaxPool2d
from groundup.nn.linear import Embedding, Identity, Linear
from groundup.nn.losses import CrossEntropyLoss, MSELoss
from groundup.nn.module import Module, Parameter
from groundup.nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from groundup.nn.recurrent import GRU, LSTM
from groundup.nn.state import Loaded

__all__ = [
    "GELU", "GRU", "LSTM", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Conv1d", "Conv2d",
    "ConvTranspose2d", "CrossEntropyLoss", "Dropout", "Embedding", "GroupNorm", "Identity",
    "LayerNorm", "Linear", "Loaded", "MSELoss", "MaxPool2d", "Module", "ModuleDict", "ModuleList",
    "MultiHeadAttention", "Parameter", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid",
    "Softmax", "Tanh", "clip_factor", "clip_grad_norm_", "functional", "grad_norm", "init",
]  # fmt: skip
