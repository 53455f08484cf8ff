package main

// select64 is a plain select: reflect.Select, which takes a slice of cases, is slower.
func select64(_, ops int) (measured, error) {
	clock := startClock()
	var c [64]chan int
	producers(c[:], ops)
	sum := 0
	for range ops {
		var value int
		select {
		case value = <-c[0]:
		case value = <-c[1]:
		case value = <-c[2]:
		case value = <-c[3]:
		case value = <-c[4]:
		case value = <-c[5]:
		case value = <-c[6]:
		case value = <-c[7]:
		case value = <-c[8]:
		case value = <-c[9]:
		case value = <-c[10]:
		case value = <-c[11]:
		case value = <-c[12]:
		case value = <-c[13]:
		case value = <-c[14]:
		case value = <-c[15]:
		case value = <-c[16]:
		case value = <-c[17]:
		case value = <-c[18]:
		case value = <-c[19]:
		case value = <-c[20]:
		case value = <-c[21]:
		case value = <-c[22]:
		case value = <-c[23]:
		case value = <-c[24]:
		case value = <-c[25]:
		case value = <-c[26]:
		case value = <-c[27]:
		case value = <-c[28]:
		case value = <-c[29]:
		case value = <-c[30]:
		case value = <-c[31]:
		case value = <-c[32]:
		case value = <-c[33]:
		case value = <-c[34]:
		case value = <-c[35]:
		case value = <-c[36]:
		case value = <-c[37]:
		case value = <-c[38]:
		case value = <-c[39]:
		case value = <-c[40]:
		case value = <-c[41]:
		case value = <-c[42]:
		case value = <-c[43]:
		case value = <-c[44]:
		case value = <-c[45]:
		case value = <-c[46]:
		case value = <-c[47]:
		case value = <-c[48]:
		case value = <-c[49]:
		case value = <-c[50]:
		case value = <-c[51]:
		case value = <-c[52]:
		case value = <-c[53]:
		case value = <-c[54]:
		case value = <-c[55]:
		case value = <-c[56]:
		case value = <-c[57]:
		case value = <-c[58]:
		case value = <-c[59]:
		case value = <-c[60]:
		case value = <-c[61]:
		case value = <-c[62]:
		case value = <-c[63]:
		}
		sum += value
	}
	m := clock.stop(ops)
	return m, checkSum(sum, ops)
}
