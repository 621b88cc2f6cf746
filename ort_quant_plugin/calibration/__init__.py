"""Calibration: data in, activation ranges out, measured by custom ops while the model runs."""
