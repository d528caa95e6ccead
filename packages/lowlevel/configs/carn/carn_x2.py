"""CARN x2; all else as for CARN-M."""

_base_ = "carn_m_x2.py"
name = "carn_x2"
network = "carn_x2"
