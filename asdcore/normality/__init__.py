"""What is normal for one machine: models of embeddings, and distances from them."""
