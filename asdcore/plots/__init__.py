"""Every plot. Each function returns a matplotlib Figure that is drawn without a display."""
