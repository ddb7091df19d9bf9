"""The vision-language datasets: names, splits, official files, labels, metrics, corpora."""
