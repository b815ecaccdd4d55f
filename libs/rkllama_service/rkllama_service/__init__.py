"""What every process of rkllama does the same way: settings, logs, probes, signals, its end."""
