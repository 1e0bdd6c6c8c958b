"""Stock: a plain function, run in a worker thread."""


def reserve(data: dict) -> None:
    print(f"stock: reserved the goods of {data['order_id']}", flush=True)
