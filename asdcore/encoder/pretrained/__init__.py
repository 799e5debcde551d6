"""Published audio models as frozen encoders, read from a local folder: only safetensors, and none of their code."""
