"""Recurrent networks on CPUs."""
