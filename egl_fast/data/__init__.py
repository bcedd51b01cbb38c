"""Manifests, audio and batches."""
