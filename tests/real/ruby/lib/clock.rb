class Clock
  def call(_environment)
    [200, { 'content-type' => 'text/plain' }, [Time.now.utc.to_s, "\n"]]
  end
end
