"""ResNet, the plain networks without skip connections, and the pre-activation ResNets."""
