"""Encoders of other libraries behind the protocol of ours: torchvision, timm, transformers; nothing is downloaded."""
