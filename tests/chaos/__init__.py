"""Chaos: load on emulated boards while processes are killed and stopped, judged from outside."""
