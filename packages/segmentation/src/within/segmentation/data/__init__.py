"""Data of semantic segmentation: CamVid, Cityscapes and ADE20K as published, read as pairs of image and label."""

from within.segmentation.data.ade20k import ade20k
from within.segmentation.data.camvid import camvid
from within.segmentation.data.cityscapes import cityscapes
from within.segmentation.data.folders import DATASETS, find_dataset
from within.segmentation.data.images import read_image, read_label_ids
from within.segmentation.data.pairs import SegmentationPairs
from within.segmentation.data.training_crops import TrainingCrops

__all__ = [
    "DATASETS",
    "SegmentationPairs",
    "TrainingCrops",
    "ade20k",
    "camvid",
    "cityscapes",
    "find_dataset",
    "read_image",
    "read_label_ids",
]
