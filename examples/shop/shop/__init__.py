"""The services of the shop: each module holds the handlers of one of them."""
