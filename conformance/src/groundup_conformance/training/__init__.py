"""Level 3: networks that train on a device and in float64, step by step alike."""
