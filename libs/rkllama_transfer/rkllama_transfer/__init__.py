"""Bytes named by their digest, from one machine's disk to another's: resumed, checked, written whole or not at all."""
