"""LXMERT and VisualBERT of transformers behind one protocol, with their published losses."""
