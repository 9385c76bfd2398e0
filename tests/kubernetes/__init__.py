"""What the cluster tells and takes, without a cluster: pods as the API server writes them."""
