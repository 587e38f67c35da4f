-- forget_deliveries: what has ended goes, though nobody reports.
-- ARGV: clock. Gives 1.

forget()
return 1
