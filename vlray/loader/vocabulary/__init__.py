"""The vocabulary of bert-base-uncased: 30,522 word pieces, in the order of their ids.

Of Google's BERT (arXiv:1810.04805), Apache-2.0; LXMERT's and VisualBERT's weights are made for it.
"""
