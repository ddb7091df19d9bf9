"""LXMERT and VisualBERT from transformers behind one protocol, with their published losses."""
