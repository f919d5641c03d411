"""Tests of native/: the C core and its faces."""
