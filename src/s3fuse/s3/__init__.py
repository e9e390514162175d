"""The control plane: what is in a bucket, asked through the S3 API and never a mount."""
