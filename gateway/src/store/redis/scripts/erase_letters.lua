-- erase_letters: dead letters go, by number.
-- ARGV: clock, their numbers.
-- Gives how many there were.

enter_all()
local erased = 0
for at = 2, #ARGV do
  local name, channel = letter_of(tonumber(ARGV[at]))
  if name then
    remove_letter(name, channel)
    erased = erased + 1
  end
end
return erased
