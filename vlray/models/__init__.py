"""LXMERT and VisualBERT of transformers behind one protocol, with the losses of their recipes."""
