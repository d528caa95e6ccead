"""CARN x4; all else as for CARN-M."""

_base_ = "carn_m_x4.py"
name = "carn_x4"
network = "carn_x4"
