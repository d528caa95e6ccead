"""CARN x3; all else as for CARN-M."""

_base_ = "carn_m_x3.py"
name = "carn_x3"
network = "carn_x3"
