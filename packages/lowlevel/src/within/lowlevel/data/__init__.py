"""Images for training and evaluation: files, folders, LMDB, sample photographs, degradations."""

from within.lowlevel.data.degradations import (
    BicubicDownscale,
    Chain,
    Degradation,
    GaussianNoise,
    JpegCompression,
    PoissonGaussianNoise,
)
from within.lowlevel.data.folders import DegradedImages, PairedImages, open_pair, open_source
from within.lowlevel.data.images import read_image, to_image, to_tensor, write_image
from within.lowlevel.data.lmdb import LmdbImages, write_lmdb
from within.lowlevel.data.patches import Patches
from within.lowlevel.data.resize import imresize, modcrop
from within.lowlevel.data.sample_images import TEST_NAMES, TRAIN_NAMES, sample_image, sample_images
from within.lowlevel.data.sources import ArrayImages, FolderImages, ImageSource, load_all

__all__ = [
    "TEST_NAMES",
    "TRAIN_NAMES",
    "ArrayImages",
    "BicubicDownscale",
    "Chain",
    "Degradation",
    "DegradedImages",
    "FolderImages",
    "GaussianNoise",
    "ImageSource",
    "JpegCompression",
    "LmdbImages",
    "PairedImages",
    "Patches",
    "PoissonGaussianNoise",
    "imresize",
    "load_all",
    "modcrop",
    "open_pair",
    "open_source",
    "read_image",
    "sample_image",
    "sample_images",
    "to_image",
    "to_tensor",
    "write_image",
    "write_lmdb",
]
