"""Train with simulated int8 arithmetic (Jacob et al. 2018, arXiv:1712.05877)."""
