"""Reports whose status follows the job that writes them."""
