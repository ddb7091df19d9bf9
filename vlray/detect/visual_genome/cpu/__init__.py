"""CPU kernels of the Visual Genome network: Winograd convolutions, fused layers, RoI pooling."""
