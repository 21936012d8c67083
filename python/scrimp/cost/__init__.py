"""What work used and what that costs: meter, prices, bill, budget. Money is known nowhere else."""

from scrimp.cost.billing import Bill, BillLine, bill, format_usd
from scrimp.cost.budget import Budget
from scrimp.cost.meter import Meter
from scrimp.cost.prices import Prices

__all__ = ["Bill", "BillLine", "Budget", "Meter", "Prices", "bill", "format_usd"]
