"""Vocabulary of bert-base-uncased: 30,522 word pieces, in the order of their ids.

The file is from Google's BERT (arXiv:1810.04805) under Apache-2.0. The published LXMERT and
VisualBERT weights use this vocabulary.
"""
