"""The stores of Prefect and MLflow, and what is served from them."""
