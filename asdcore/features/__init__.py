"""Log-mel spectrograms, their six variants, and the Parquet store that holds them."""
