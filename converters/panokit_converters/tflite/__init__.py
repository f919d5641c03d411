"""Making TFLite files: conversion, layout, inputs, metadata. Reading lies in panokit.tflite."""
