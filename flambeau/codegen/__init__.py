"""Kernel -> machine code, one backend per package. Backends share no scheduling decisions."""
