"""ResNet, pre-activation ResNet and plain networks without skip connections."""
