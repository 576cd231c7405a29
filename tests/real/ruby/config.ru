require_relative 'lib with a space/clock'

run Clock.new
