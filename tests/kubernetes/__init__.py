"""The exchange with the cluster, tested without a cluster: pods are given as the API server writes them."""
