"""Weight paths in two dimensions: PCA and self-organising maps on the span of the snapshots."""
