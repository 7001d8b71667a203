"""A run on a cluster of dask.distributed."""
