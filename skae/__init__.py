"""Autoencoders for scikit-learn: nonlinear dimensionality reduction that starts at PCA."""

from skae._autoencoder import AutoencoderTransformer

__all__ = ["AutoencoderTransformer"]
__version__ = "0.1.0.dev0"
