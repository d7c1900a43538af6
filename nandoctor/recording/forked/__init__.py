"""What `record --probe` runs in forked copies of the training, behind walls; never in the training itself."""
