"""The ML plane: networks, training, engines and predictions.

Shape suffixes of array names: B images of a batch, C bones (29), H and W rows and columns, at the
network's size unless the name says native.
"""
