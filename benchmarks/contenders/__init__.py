"""One module per contender: each runs the same workloads through the public interface of one framework."""
