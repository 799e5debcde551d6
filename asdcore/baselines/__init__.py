"""What the paper's system is compared with, behind the same face."""
