"""Mail: gets only orders of 50 and more whose customer wants to hear of them."""

from leanmq_topology import Reject


async def confirm(data: dict) -> None:
    if data["email"].endswith("@example.invalid"):
        raise Reject("the address cannot exist")  # dead-lettered at once: trying again would not help
    print(f"mail: confirmed {data['order_id']} to {data['email']}", flush=True)
