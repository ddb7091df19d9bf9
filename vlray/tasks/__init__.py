"""Vision-language datasets: catalogue, official files, labels, metrics, corpora."""
