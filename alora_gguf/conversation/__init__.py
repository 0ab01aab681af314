"""What has been said, who asks, and who watches."""
